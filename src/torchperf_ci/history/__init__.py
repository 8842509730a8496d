"""Where runs are kept, so that later ones can be compared with them."""
