"""Where and how arithmetic is carried out: device, machine, execution, compiling, optimiser."""
