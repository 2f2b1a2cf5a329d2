"""Programs that write programs: language models that plan with code and with grounded words."""
