package main

func Example() {
	main()
	// Output:
	// Hello
	// Hello again
	// 429 req_1 gpt-4o $0
	// 200 chatcmpl-2 gpt-4o-2024-08-06 $0.0000325
	// 200 chatcmpl-3 gpt-4o-2024-08-06 $0.0000425
	// 3 calls, 1 of them failed, 21 tokens, $0.000075
}
