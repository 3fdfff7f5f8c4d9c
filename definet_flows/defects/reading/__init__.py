"""From structures back to configurations."""
