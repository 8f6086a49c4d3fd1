"""Where the truth is kept. `ports` says what is needed, `postgres` and its neighbours do it, `memory` is the fake."""
