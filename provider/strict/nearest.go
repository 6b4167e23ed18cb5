package strict

import "strings"

// Nearest is the candidate that key is most likely a slip of: at most a third
// of its letters away, letter case aside. It is empty where none is near.
func Nearest(key string, candidates []string) string {
	if len(key) > 64 {
		return ""
	}
	best, at := "", max(len(key)/3, 1)+1
	for _, c := range candidates {
		if len(c) > 64 {
			continue
		}
		if d := distance(strings.ToLower(key), strings.ToLower(c)); d < at {
			best, at = c, d
		}
	}

	return best
}

// distance counts the edits between two texts, two letters swapped being one
// (optimal string alignment).
func distance(a, b string) int {
	prev2, prev, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
		}

		prev2, prev, row = prev, row, prev2
	}

	return prev[len(b)]
}
