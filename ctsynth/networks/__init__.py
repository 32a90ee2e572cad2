"""Network parts that know neither files nor configuration."""
