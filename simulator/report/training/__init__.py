"""What a training run says to people: tables, charts, timeline, folder."""
