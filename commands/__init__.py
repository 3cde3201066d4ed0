"""What each command does and how it is shown. Heavy parts are imported when they are used."""
