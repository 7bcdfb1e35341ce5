# The last 256 bytes of the ROM: reset vector to the 32-bit entry. The ROM's maker fills the three numbers at 0xE0.
.section .rom_stub, "", @progbits
.code16
rom_stub:
    cli
    cld
    # lgdt cs:[..] with 32-bit operand size: at reset the base of CS is FFFF0000H.
    .byte 0x66, 0x2E, 0x0F, 0x01, 0x16
    .word 0xFF00 + (rom_gdtr - rom_stub)
    mov eax, cr0
    or al, 1
    mov cr0, eax
    # Far jump with 32-bit offset into the flat code segment.
    .byte 0x66, 0xEA
    .long 0xFFFFFF00 + (rom_start32 - rom_stub)
    .word 8
.code32
rom_start32:
    mov eax, 0x10
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov eax, 0xFFFFFFE0
    mov esi, [eax]
    mov ecx, [eax + 4]
    mov edx, [eax + 8]
    mov edi, {PROBE}
    rep movsd
    mov eax, {BOOT_DISK}
    jmp edx
.balign 8
rom_gdt:
    .quad 0
    .quad 0x00CF9B000000FFFF
    .quad 0x00CF93000000FFFF
rom_gdtr:
    .word 23
    .long 0xFFFFFF00 + (rom_gdt - rom_stub)
.org rom_stub + 0xE0
    .long 0, 0, 0
.org rom_stub + 0xF0
.code16
    jmp rom_stub
.org rom_stub + 0x100
.code64
.text
