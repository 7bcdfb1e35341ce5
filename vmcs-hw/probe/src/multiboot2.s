# The Multiboot2 header, by which a loader knows the program: any loader that reads ELF64 can start it.
.section .multiboot2, "a"
.balign 8
multiboot2_header:
    .long 0xE85250D6
    # 32-bit protected mode.
    .long 0
    .long multiboot2_header_end - multiboot2_header
    .long -(0xE85250D6 + (multiboot2_header_end - multiboot2_header))
    # Asked for: the memory map.
    .word 1, 0
    .long 12
    .long 6, 0
    # Welcome: a framebuffer, where there is no VGA text.
    .word 5, 1
    .long 20
    .long 1024, 768, 32, 0
    # The end of the tags.
    .word 0, 0
    .long 8
multiboot2_header_end:
.text
