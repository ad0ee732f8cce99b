"""Engines that train beside the local one: whatever drives the same episodes, hindsight and bank."""
