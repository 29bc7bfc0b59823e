// Package runner runs commands in containers of their own, on file states of
// their own, and gives out their output and exits.
//
// A [Session] holds jobs that end together. [Session.Run] takes a [Spec], makes
// a snapshot of the repository, finds the image and returns a [Record] with the
// job's handle; the job goes on by itself:
//
//	workspace → container created, attached, started → command handed to init →
//	output into the log store → exit → record → container removed
//
// What happens is told by [Event]s. Everything that a user interface may ask
// for is in the interface [Service], which the Session meets in its own process
// and the client of package keeper from any other.
//
// Containers need no reaper: berth-init, their first process, ends everything
// when the connection to the process that holds the Session breaks. What is
// left on disk by a process that died is found and removed by [Sweep].
package runner
