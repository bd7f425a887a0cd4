"""A carrier made up to follow the README's recipe: its adapter and its wire data, kept where nothing is registered."""
