# 32-bit entry to main: the loader leaves flat protected mode, paging off.
.section .boot, "ax"
.code32
.global entry32
entry32:
    cli
    cld
    lea esp, [boot_stack_top]
    # Where the work lies.
    mov ebp, eax
    xor eax, eax
    lea edi, [bss_start]
    lea ecx, [bss_end]
    sub ecx, edi
    shr ecx, 2
    rep stosd
    # What the loader says lies anywhere, but not in the program: it is saved before anything else is written.
    cmp ebp, {BOOT_MULTIBOOT2}
    jne 1f
    mov esi, ebx
    lea edi, [loader_information]
    mov ecx, [esi]
    cmp ecx, {INFORMATION_BYTES}
    jbe 2f
    mov ecx, {INFORMATION_BYTES}
2:  rep movsb
    xor eax, eax
    # The pages of all paging structures, zeroed.
1:  mov edi, {PML4}
    mov ecx, 0x10000 / 4
    rep stosd
    # PML4 -> PDPT -> four page directories of 2 MiB pages: 4 GiB, each address mapped to itself.
    mov edi, {PML4}
    lea eax, [edi + 0x1003]
    mov [edi], eax
    lea eax, [edi + 0x2003]
    mov [edi + 0x1000], eax
    lea eax, [edi + 0x3003]
    mov [edi + 0x1008], eax
    lea eax, [edi + 0x4003]
    mov [edi + 0x1010], eax
    lea eax, [edi + 0x5003]
    mov [edi + 0x1018], eax
    add edi, 0x2000
    mov eax, 0x83
    mov ecx, 2048
2:  mov [edi], eax
    add edi, 8
    add eax, 0x200000
    dec ecx
    jnz 2b
    # Processors with VMX and without 64-bit mode exist.
    mov eax, 0x80000000
    cpuid
    cmp eax, 0x80000001
    jb no_long_mode
    mov eax, 0x80000001
    cpuid
    test edx, 0x20000000
    jz no_long_mode
    # VMXE follows once CPUID has shown VMX.
    mov eax, {CR4} & ~0x2000
    mov cr4, eax
    mov eax, {PML4}
    mov cr3, eax
    mov ecx, 0xC0000080
    mov eax, {EFER} & ~0x400
    xor edx, edx
    wrmsr
    mov eax, {CR0}
    mov cr0, eax
    lgdt [boot_gdtr]
    push {CODE}
    lea eax, [entry64]
    push eax
    retf
no_long_mode:
    lea esi, [no_long_mode_message]
    lea ecx, [no_long_mode_end]
    sub ecx, esi
    mov edx, 0xE9
    rep outsb
    cmp ebp, {BOOT_MULTIBOOT2}
    je no_long_mode_on_metal
    lea esi, [shutdown]
    mov ecx, 8
    mov edx, 0x8900
    rep outsb
2:  hlt
    jmp 2b
    # A machine without 64-bit mode has VGA text; COM1 is as the firmware has left it, or set to 115200 baud.
no_long_mode_on_metal:
    mov edx, 0x3FB
    mov al, 0x83
    out dx, al
    mov edx, 0x3F8
    mov al, 1
    out dx, al
    mov edx, 0x3F9
    mov al, 0
    out dx, al
    mov edx, 0x3FB
    mov al, 3
    out dx, al
    lea esi, [no_long_mode_message]
    mov edi, 0xB8000
3:  lodsb
    mov ah, 7
    cmp al, 10
    je 4f
    mov [edi], ax
    add edi, 2
4:  mov bl, al
    mov ecx, 0x10000
    mov edx, 0x3FD
5:  in al, dx
    test al, 0x20
    jnz 6f
    dec ecx
    jnz 5b
6:  mov edx, 0x3F8
    mov al, bl
    out dx, al
    cmp al, 10
    jne 3b
    jmp 2b
no_long_mode_message:
    .ascii "vmcs-probe: panic: the processor has no 64-bit mode\n"
no_long_mode_end:
shutdown:
    .ascii "Shutdown"
.code64
entry64:
    mov eax, {DATA}
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov fs, eax
    mov gs, eax
    lea rsp, [rip + boot_stack_top]
    mov edi, ebp
    xor ebp, ebp
    call {main}
    ud2
.balign 8
boot_gdt:
    .quad 0
    .quad 0x00AF9B000000FFFF
    .quad 0x00CF93000000FFFF
boot_gdtr:
    .word 23
    .long boot_gdt

.section .bss.boot_stack, "aw", @nobits
.balign 16
    .skip 0x10000
boot_stack_top:
.balign 8
loader_information:
    .skip {INFORMATION_BYTES}
.text
