"""The accelerator for x86-64 guests on x86-64 hosts: Linux's KVM.

    device   the descriptor of /dev/kvm and what it can do, or why it cannot be used
    vm       KvmAccelerator: memory slots and ioeventfds that follow the maps, the in-kernel irqchip
    vcpu     KvmVcpu over the run loop in C (accel/native/kvm.c)
    cpuid    which of the host's CPU features a guest sees
    state    a vCPU's state as plain values
    irqchip  PIC, IOAPIC, LAPIC and PIT in the kernel
    probe    what this host's KVM can do, for people

Sources: Linux, Documentation/virt/kvm/api.rst; Intel SDM volumes 2 to 4; AMD APM volume 2.
"""
