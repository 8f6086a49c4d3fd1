"""The scheduler's mind: events in, commands out, `now` a parameter. No Ray, Docker, SQL, clock or randomness here."""
