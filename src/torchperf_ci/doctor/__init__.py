"""Say how noisy and how ready this machine is, and how small a change it can see."""
