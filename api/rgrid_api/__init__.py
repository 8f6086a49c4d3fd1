"""The gateway: HTTP in front of Postgres. It knows neither Ray nor Docker, and accepts work while both are down."""
