"""Functions of arrays: anchors, scores, clustering, distances, random draws."""
