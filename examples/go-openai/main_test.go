package main

func Example() {
	main()
	// Output:
	// refused: true
	// /v1/embeddings text-embedding-3-small input_tokens 1000 $0.00002
	// /v1/audio/transcriptions whisper-1 audio_time 62000 $0.0062
	// /v1/chat/completions gpt-4o-2024-08-06 input_tokens 9 $0.0000325
}
