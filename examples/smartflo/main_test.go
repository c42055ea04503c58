package main

func Example() {
	main()
	// Output:
	// answered: 401 Unauthorized
	// answered: 204 No Content
	// answered: 204 No Content
	// answered: 204 No Content
	// imported: 1 new, 1 known
	// 1778223893.2156835 2026-05-08T07:04:53Z direction=outbound 1m6s $0.0168
	// 1778224000.300002 2026-05-08T18:45:00Z direction=inbound 30s $0.0084
}
