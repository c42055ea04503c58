package main

func Example() {
	main()
	// Output:
	// spoken: 13 bytes
	// req_1 eleven_flash_v2_5 characters 23 $0.00092 map[credits:12]
	// conv_1 agents reported_cost 81200000000 $0.0812 map[call_time:61000 credits:420]
}
