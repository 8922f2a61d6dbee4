"""Around any transformation: accumulation, guards, masks, layouts, averages, reports, privacy, sharpness."""
