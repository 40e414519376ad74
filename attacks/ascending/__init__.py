"""What projected ascent is made of: what it ascends, and how its steps shrink."""
