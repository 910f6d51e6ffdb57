"""The containers, proven on a real engine: built, started, asked, loaded, hurt, replaced, and gone in the end."""
