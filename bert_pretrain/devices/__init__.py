"""The devices that compute: which, in what versions, and what fails there."""
