"""What runs in the containers beside the roles: the first program, the health check, the making of secrets."""
