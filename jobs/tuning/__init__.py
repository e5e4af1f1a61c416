"""What images are scored fastest with on this machine: `sluice models bench`."""
