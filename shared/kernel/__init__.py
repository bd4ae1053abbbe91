"""Ground floor: what every area stands on and which knows no area."""
