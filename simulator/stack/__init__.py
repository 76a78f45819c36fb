"""Software stacks: dated, fitted to measurements, one YAML file each beside this file."""
