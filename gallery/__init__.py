"""Who is who: people and their embeddings on disk, matched in memory."""
