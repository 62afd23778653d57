"""What people's labels are like: agreement, likely errors, doubles, gain."""
