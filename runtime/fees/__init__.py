"""Fees: schedules as versioned data, and what they make of one movement of money. Pure and exact."""
