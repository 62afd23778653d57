"""Device meshes, rows split over them, and several processes."""
