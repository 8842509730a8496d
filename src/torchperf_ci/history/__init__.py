"""Keep runs, so that later ones can be compared with them."""
