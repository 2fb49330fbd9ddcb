"""What a user can type: the subcommands of ``lab``."""
