/* AArch64: what the CPU has, by the auxiliary vector and by the ID registers that Linux lets programs read. */
#include <stdio.h>
#include <sys/auxv.h>

#define SHOW(name)                                       \
    do {                                                 \
        unsigned long value;                             \
        __asm__ volatile("mrs %0, " #name : "=r"(value)); \
        printf(#name " %lx\n", value);                   \
    } while (0)

int main(void)
{
    printf("AT_HWCAP %lx\nAT_HWCAP2 %lx\n", getauxval(AT_HWCAP), getauxval(AT_HWCAP2));
    SHOW(ID_AA64ISAR0_EL1);
    SHOW(ID_AA64ISAR1_EL1);
    SHOW(ID_AA64PFR0_EL1);
    SHOW(ID_AA64PFR1_EL1);
    SHOW(MIDR_EL1);
    SHOW(MPIDR_EL1);
    return 0;
}
