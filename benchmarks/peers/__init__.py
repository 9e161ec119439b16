"""Other toolkits' post-training quantisation: what installs them, and one small runner for each."""
