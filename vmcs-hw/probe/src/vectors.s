# Entry points of all 256 vectors, 16 bytes apart. (AT&T syntax: `push $symbol` is unambiguous there.)
.section .text.vectors, "ax"
.balign 16
.global vector_stubs
vector_stubs:
.set vector, 0
.rept 256
    .balign 16
    # These push an error code (SDM Vol. 3, Table 7-1); the others get a 0 in its place.
    .if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    push $0
    .endif
    push $vector
    jmp exception_entry
    .set vector, vector + 1
.endr

exception_entry:
    push %rax
    push %rcx
    push %rdx
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    # If a VM exit loaded a HOST_RIP that faults, the control registers are those of the host-state area.
    mov ${CR4}, %eax
    mov %rax, %cr4
    mov ${CR0}, %eax
    mov %rax, %cr0
    cmpb $0, vmx_entering(%rip)
    je 3f
    mov 88(%rsp), %rax
    lea vmx_enter(%rip), %rcx
    cmp %rcx, %rax
    jb 2f
    lea vmx_enter_end(%rip), %rcx
    cmp %rcx, %rax
    jb 3f
    # The fault lies beyond VMLAUNCH or VMRESUME: control has come back through the host-state area.
2:  jmp host_rip
    # The interrupted code may hold values in the SSE registers, which Rust code uses.
3:  fxsave64 exception_fx_area(%rip)
    mov %rsp, %rdi
    call {exception}
    fxrstor64 exception_fx_area(%rip)
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rdx
    pop %rcx
    pop %rax
    add $16, %rsp
    iretq

.section .bss.exceptions, "aw", @nobits
.balign 16
exception_fx_area:
    .skip 512
.text
