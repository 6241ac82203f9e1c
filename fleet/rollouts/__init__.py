"""New images and what else a group launches, brought to the nodes that run: by instance refreshes."""
