"""Search-augmented question answering: an agent searches passages of a corpus and answers a question in a few words."""
