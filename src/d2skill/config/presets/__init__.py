"""Named settings, one TOML file each; the first comment line says what a preset is for."""
