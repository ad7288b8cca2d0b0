print("overlock")
