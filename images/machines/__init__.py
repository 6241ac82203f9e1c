"""Virtual machines on this host: QEMU with KVM, User-mode Linux, or QEMU alone, whichever runs guests best."""
