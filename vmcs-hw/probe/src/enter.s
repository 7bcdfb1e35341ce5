# VMLAUNCH and VMRESUME with the way back.
#
# vmx_enter(edi): bit 0 chooses VMRESUME, bit 1 executes it directly after MOV SS. Returns in eax:
# bit 0 = CF, bit 1 = ZF, 4 = exception, 8 = control came back through the host-state area.
.section .text.enter, "ax"
# The registers that an entry does not load: a guest that gets to execute anything finds the same in all cases. In memory that
# is 0 that is ADD to the byte at RAX, of AL.
.macro clear_registers
    xor eax, eax
    xor ebx, ebx
    xor edx, edx
    xor esi, esi
    xor edi, edi
    xor ebp, ebp
    xor r8d, r8d
    xor r9d, r9d
    xor r10d, r10d
    xor r11d, r11d
    xor r12d, r12d
    xor r13d, r13d
    xor r14d, r14d
    xor r15d, r15d
.endm
.global vmx_enter
vmx_enter:
    push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    mov [rip + vmx_stack], rsp
    mov byte ptr [rip + vmx_entering], 1
    mov ecx, {DATA}
    test edi, 2
    jnz 3f
    test edi, 1
    jnz 2f
    clear_registers
22: vmlaunch
    jmp 5f
2:  clear_registers
23: vmresume
    jmp 5f
3:  test edi, 1
    jnz 4f
    clear_registers
    mov ss, ecx
24: vmlaunch
    jmp 5f
4:  clear_registers
    mov ss, ecx
25: vmresume
5:  setc al
    setz cl
    movzx eax, al
    movzx ecx, cl
    lea eax, [rax + rcx * 2]
6:  mov byte ptr [rip + vmx_entering], 0
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbx
    pop rbp
    ret
    # After an exception.
7:  mov eax, 4
    jmp 6b

# The time-stamp counter around an instruction. LFENCE before RDTSC waits for what comes before, LFENCE behind it keeps
# back what follows (SDM Vol. 2, "RDTSC"). Bochs advances the counter by the instructions between two jumps at once, so a
# jump comes first; a processor takes it in a cycle, which measuring nothing takes as well. None of these changes a flag.
.macro stamp_before
    jmp 8f
8:  lfence
    rdtsc
    mov [rip + vmx_stamp], eax
    mov [rip + vmx_stamp + 4], edx
    # For an exception, as in vmx_enter.
    mov eax, 4
    lfence
.endm
# Into r9d:r8d, which the exit path leaves alone.
.macro stamp_behind
    jmp 8f
8:  lfence
    rdtsc
    lfence
    mov r8d, eax
    mov r9d, edx
.endm

# vmx_timed(edi, rsi): VMLAUNCH (1), VMRESUME (2) or nothing (0). Returns in eax what vmx_enter does, and stores in the two
# quadwords at rsi the time-stamp counter before and behind; 0 if control came back by way of an exception.
.global vmx_timed
vmx_timed:
    push rsi
    call 2f
    pop rsi
    mov rcx, [rip + vmx_stamp]
    mov [rsi], rcx
    shl r9, 32
    or r8, r9
    mov [rsi + 8], r8
    ret
    # The frame of vmx_enter, whose end takes it off the stack again.
2:  push rbp
    push rbx
    push r12
    push r13
    push r14
    push r15
    mov [rip + vmx_stack], rsp
    mov byte ptr [rip + vmx_entering], 1
    xor r8d, r8d
    xor r9d, r9d
    cmp edi, 1
    je 3f
    ja 4f
    stamp_before
    stamp_behind
    jmp 5b
3:  stamp_before
26: vmlaunch
    stamp_behind
    jmp 5b
4:  stamp_before
27: vmresume
    stamp_behind
    jmp 5b
.global vmx_enter_end
vmx_enter_end:

.section .fixups, "a"
    .quad 22b, 7b
    .quad 23b, 7b
    .quad 24b, 7b
    .quad 25b, 7b
    .quad 26b, 6b
    .quad 27b, 6b

# HOST_RIP of every image. The host-state area under test chose CR0, CR3, CR4, the segments, the descriptor tables,
# FS, GS, IA32_EFER, IA32_PAT, CET and PKRS: none of it is relied upon. Registers and immediates only, until CR4 is
# ours (no CET, SMAP, protection keys) and then CR0 and CR3.
.section .host_rip, "ax"
.global host_rip
host_rip:
    # Survives indirect-branch tracking in WAIT_FOR_ENDBRANCH; a NOP otherwise.
    endbr64
    # A write flushes the TLB, so what is as it should be stays.
    mov ecx, {CR4}
    mov rax, cr4
    cmp rax, rcx
    je 2f
    mov cr4, rcx
2:  mov ecx, {CR0}
    mov rax, cr0
    cmp rax, rcx
    je 3f
    mov cr0, rcx
3:  mov ecx, {PML4}
    mov rax, cr3
    cmp rax, rcx
    je 4f
    mov cr3, rcx
4:  mov ecx, 0xC0000080
    mov eax, {EFER}
    xor edx, edx
    wrmsr
    # IA32_PAT, as after reset.
    mov ecx, 0x277
    mov eax, 0x00070406
    mov edx, eax
    wrmsr
    lgdt [rip + host_gdtr]
    lidt [rip + host_idtr]
    mov eax, {DATA}
    mov ss, eax
    mov rsp, [rip + vmx_stack]
    mov ds, eax
    mov es, eax
    mov fs, eax
    mov gs, eax
    # IRET and not a far return: after an NMI that has exited, or a guest that blocked them, NMIs stay blocked until an IRET,
    # and that would outlast the case. An exit clears RFLAGS and with it NT, which IRET refuses.
    mov rax, rsp
    push {DATA}
    push rax
    push 2
    push {CODE}
    lea rax, [rip + 7f]
    push rax
    iretq
7:  xor eax, eax
    lldt ax
    # LTR wants an available TSS: clear the busy bit.
    and byte ptr [{GDT} + {TR} + 5], 0xFD
    mov eax, {TR}
    ltr ax
    mov eax, 0x400
    mov dr7, rax
    mov eax, 8
    jmp 6b

# HOST_RIP of a measured entry. RDTSC needs nothing of the host state: CR4.TSD does not bind the highest privilege level.
.global host_rip_timed
host_rip_timed:
    endbr64
    stamp_behind
    jmp host_rip
.balign 8
host_gdtr:
    .word {GDT_LIMIT}
    .quad {GDT}
host_idtr:
    .word {IDT_LIMIT}
    .quad {IDT}

# GUEST_RIP of plain guests; the same in 16-, 32- and 64-bit code.
.section .guest_rip, "ax"
guest_rip:
    vmcall
    hlt
    jmp guest_rip

# The guest between cases: an IRET ends blocking by NMI, and a VM exit follows.
.global guest_rest
guest_rest:
    iretq
2:  vmcall
    hlt
.balign 8
.global guest_rest_stack
guest_rest_stack:
    .quad 2b
    .quad {CODE}
    .quad 2
    .quad guest_rest_stack
    .quad {DATA}

.section .bss.enter, "aw", @nobits
.balign 8
vmx_stack:
    .skip 8
.global vmx_entering
vmx_entering:
    .skip 8
vmx_stamp:
    .skip 8
.text
