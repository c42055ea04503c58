package main

import (
	"net/http"
	"strings"
)

// What Smartflo sends: any fields under any names that its user chose, every number as a text, times in India's clock, and
// variables that it does not know by their own names.
const (
	answered = `{"call_id":"1778223893.2156835","start_stamp":"2026-05-08 12:34:53","end_stamp":"$end_stamp","billsec":"$billsec",
		"direction":"clicktocall","custom_identifier":"acme"}`
	hangup = `{"call_id":"1778223893.2156835","start_stamp":"2026-05-08 12:34:53","end_stamp":"2026-05-08 12:36:04","billsec":"66",
		"direction":"clicktocall","custom_identifier":"acme","recording_name":"$recording_name","customer_no_with_prefix ":"+91"}`
	page = `{"count":2,"results":[
		{"call_id":"1778223893.2156835","date":"2026-05-08","time":"12:34:53","answered_seconds":66,"direction":"outbound","custom_identifier":"acme"},
		{"call_id":"1778224000.300002","date":"2026-05-09","time":"00:15:00","answered_seconds":"0:00:30","direction":"inbound","custom_identifier":"acme"}]}`
)

// send posts a webhook and returns how it was answered.
func send(url, body string) string {
	res, err := http.Post(url, "application/json", strings.NewReader(body))
	check(err)
	defer res.Body.Close()
	return res.Status
}
