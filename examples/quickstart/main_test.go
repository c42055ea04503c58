package main

func Example() {
	main()
	// Output:
	// chatcmpl-1 costs $0.0225, duplicate false
	// chatcmpl-2 costs $0.0225, duplicate false
	// chatcmpl-2 costs $0.0225, duplicate true
	// this month: 2 calls, 900 tokens, $0.045 of $0.05
	// alert: cost_warning, 80% of $0.05 reached with $0.045
}
