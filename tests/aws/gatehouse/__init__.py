"""What stands between a provider and moto's AWS server, so that it behaves as the real service does, and as badly."""
