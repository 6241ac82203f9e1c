"""Virtual machines on this host: by KVM, User-mode Linux or emulation, whichever really runs guests."""
