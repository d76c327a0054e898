/* Real mode: asks CPUID for every leaf and subleaf of the table at 6000h, up to FFFFFFFFh; the answers follow at 6800h. */
        .code16
        .globl  start
start:
        movw    $0x6000, %si
        movw    $0x6800, %di
1:      movl    (%si), %eax
        cmpl    $-1, %eax
        je      2f
        movl    4(%si), %ecx
        cpuid
        movl    %eax, (%di)
        movl    %ebx, 4(%di)
        movl    %ecx, 8(%di)
        movl    %edx, 12(%di)
        addw    $8, %si
        addw    $16, %di
        jmp     1b
2:      hlt
