"""Looking at one episode: a page for the browser, or Rerun's viewer."""
