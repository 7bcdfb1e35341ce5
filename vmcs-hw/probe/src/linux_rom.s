# The last 512 bytes of a ROM that starts Linux without a BIOS: reset vector, a copy of the first disk to memory, the
# kernel's 32-bit entry. The ROM's maker fills the four numbers at 0x1E0: target of the copy, its sectors, the kernel's
# boot parameters, its entry.
.section .linux_rom, "", @progbits
.code16
linux_rom:
    cli
    cld
    # lgdt cs:[..] with 32-bit operand size: at reset the base of CS is FFFF0000H.
    .byte 0x66, 0x2E, 0x0F, 0x01, 0x16
    .word 0xFE00 + (linux_gdtr - linux_rom)
    mov eax, cr0
    or al, 1
    mov cr0, eax
    # Far jump with 32-bit offset into the flat code segment.
    .byte 0x66, 0xEA
    .long 0xFFFFFE00 + (linux_start32 - linux_rom)
    .word 0x10
.code32
linux_start32:
    mov eax, 0x18
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov ebp, 0xFFFFFFE0
    mov edi, [ebp]
    mov ebx, [ebp + 4]
    # The sector, as LBA.
    xor esi, esi
2:  cmp esi, ebx
    je 9f
    mov dx, 0x1F7
3:  in al, dx
    test al, 0x80
    jnz 3b
    # No interrupts.
    mov dx, 0x3F6
    mov al, 2
    out dx, al
    mov dx, 0x1F6
    mov eax, esi
    shr eax, 24
    or al, 0xE0
    out dx, al
    mov dx, 0x1F2
    mov al, 1
    out dx, al
    inc edx
    mov eax, esi
    out dx, al
    inc edx
    shr eax, 8
    out dx, al
    inc edx
    shr eax, 8
    out dx, al
    # READ SECTORS.
    mov dx, 0x1F7
    mov al, 0x20
    out dx, al
    # Until it is not busy and has data.
4:  in al, dx
    and al, 0x88
    cmp al, 8
    jne 4b
    mov dx, 0x1F0
    mov ecx, 128
    rep insd
    inc esi
    jmp 2b
    # Linux' 32-bit boot protocol: selectors 10H and 18H, parameters in ESI, the other registers 0.
9:  mov esi, [ebp + 8]
    mov eax, [ebp + 12]
    xor ebx, ebx
    xor edi, edi
    xor ebp, ebp
    jmp eax
.balign 8
linux_gdt:
    .quad 0
    .quad 0
    .quad 0x00CF9B000000FFFF
    .quad 0x00CF93000000FFFF
linux_gdtr:
    .word 31
    .long 0xFFFFFE00 + (linux_gdt - linux_rom)
.org linux_rom + 0x1E0
    .long 0, 0, 0, 0
.org linux_rom + 0x1F0
.code16
    jmp linux_rom
.org linux_rom + 0x200
.code64
.text
