"""Tables, figures and verdicts, written from the result files alone."""
