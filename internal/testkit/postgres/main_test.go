package postgres_test

import (
	"os"
	"testing"

	"grahak/internal/testkit/postgres"
)

func TestMain(m *testing.M) { os.Exit(postgres.Main(m.Run)) }
